# One image for every process; the command selects which. Built in two stages so that pip and its cache stay out.
FROM python:3.13-slim-trixie AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock .
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
COPY strategies strategies
COPY julie julie
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /venv/bin/python -m compileall -q /venv/lib

FROM python:3.13-slim-trixie
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin julie \
    && mkdir -p /data && chown julie:julie /data
COPY --from=build /venv /venv
WORKDIR /app
COPY julie.toml .
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 JULIE_CONFIG=/app/julie.toml
USER julie
VOLUME /data
CMD ["julie", "--help"]
