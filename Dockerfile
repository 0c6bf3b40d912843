# Two images from one file: `redis`, the public one with a redis-cli that knows the password, and `julie`, one
# image for every process; the command selects which. Built in stages so that pip, caches and sources stay out,
# and in this order so that a change of code replaces a small layer and not the dependencies.

FROM redis:8 AS redis
USER root
COPY tools/redis-cli /usr/local/sbin/redis-cli
RUN chmod 755 /usr/local/sbin/redis-cli
USER redis

FROM python:3.13-slim-trixie AS dependencies
RUN python -m venv --without-pip /venv
COPY requirements.lock /build/
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /build/requirements.lock \
    && chmod -R a+rX /venv

FROM dependencies AS code
WORKDIR /build
COPY pyproject.toml README.md LICENSE julie.toml ./
COPY shared shared
COPY services services
COPY strategies strategies
COPY julie julie
# Files keep the modes they had in the clone, which a strict umask makes unreadable for another user.
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --target /app/lib . \
    && cp julie.toml /app/ && chmod -R a+rX /app

FROM python:3.13-slim-trixie AS julie
# The public image comes without compiled standard library, and a read-only one could never keep it: every
# healthcheck would compile anew what it imports.
RUN python -m compileall -q -x '/(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin julie \
    && mkdir -p /data /run/secrets && chown julie:julie /data /run/secrets
COPY --from=dependencies /venv /venv
COPY --from=code /app /app
WORKDIR /app
ENV PATH=/app/lib/bin:/venv/bin:$PATH PYTHONPATH=/app/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    JULIE_CONFIG=/app/julie.toml
USER julie
CMD ["julie", "--help"]
