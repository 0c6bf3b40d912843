from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from shared.runtime.config import (
    SECTIONS,
    BrokerSection,
    JulieSection,
    RedisSection,
    Section,
    Settings,
    SettingsRefused,
    check_strategy_id,
)


class FeedSection(Section):
    stale_after_s: float = Field(2.0, gt=0, le=60, description="Seconds until data counts as stale.")
    contract: str | None = None


def settings_of(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "julie.toml"
    path.write_text(text)
    return Settings.read({"JULIE_CONFIG": str(path), **environ})


def problems_of(settings: Settings) -> list[str]:
    with pytest.raises(SettingsRefused) as caught:
        settings.sections(julie=JulieSection, redis=RedisSection, broker=BrokerSection, feed=FeedSection)
    return caught.value.problems


def test_defaults_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.read({})
    assert settings.section("julie", JulieSection).symbols == ("MES", "MNQ")
    assert settings.section("feed", FeedSection).stale_after_s == 2.0


def test_every_problem_at_once(tmp_path: Path) -> None:
    text = """
        [julie]
        symbols = ["mes"]
        account_id = 0
        [feed]
        stale_after = 3
        stale_after_s = 100
        [fed]
        x = 1
        [redis]
        url = "redis://:hunter2@redis/0"
    """
    problems = problems_of(settings_of(tmp_path, text, JULIE_BROKR__USER_NAME="x"))
    for wanted in (
        "[fed]: no such section; did you mean 'feed'?",
        "JULIE_BROKR__USER_NAME: no section [brokr]; did you mean 'broker'?",
        "julie.symbols: ",
        "julie.account_id: ",
        "feed.stale_after: no such setting; did you mean 'stale_after_s'?",
        "feed.stale_after_s: ",
        "redis.password_file",
    ):
        assert any(wanted in problem for problem in problems), (wanted, problems)
    assert len(problems) == 7
    assert "hunter2" not in str(problems)


def test_problem_says_what_the_setting_means(tmp_path: Path) -> None:
    (problem,) = problems_of(settings_of(tmp_path, "[feed]\nstale_after_s = 0"))
    assert "greater than 0" in problem
    assert "Seconds until data counts as stale" in problem


def test_missing_file_that_was_asked_for(tmp_path: Path) -> None:
    settings = Settings.read({"JULIE_CONFIG": str(tmp_path / "none.toml")})
    (problem,) = problems_of(settings)
    assert "none.toml: no such file; set JULIE_CONFIG" in problem


@pytest.mark.parametrize("text", ["[julie", "[julie]\nenv = ", "a = 1"])
def test_invalid_file_is_one_problem(tmp_path: Path, text: str) -> None:
    assert len(problems_of(settings_of(tmp_path, text))) == 1


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "julie.toml"
    path.write_bytes(b"\xff\xfe\x00")
    (problem,) = problems_of(Settings.read({"JULIE_CONFIG": str(path)}))
    assert "not valid TOML" in problem


@pytest.mark.parametrize(
    ("variable", "value", "section", "name", "expected"),
    [
        ("JULIE_FEED__STALE_AFTER_S", "3.5", "feed", "stale_after_s", 3.5),
        ("JULIE_JULIE__SYMBOLS", '["ES"]', "julie", "symbols", ("ES",)),
        ("JULIE_JULIE__ENV", "prod", "julie", "env", "prod"),
        ("JULIE_REDIS__URL", "redis://redis:6379/0", "redis", "url", "redis://redis:6379/0"),
        ("JULIE_FEED__CONTRACT", "null", "feed", "contract", None),
    ],
)
def test_environment_overrides_the_file(
    tmp_path: Path, variable: str, value: str, section: str, name: str, expected: object
) -> None:
    settings = settings_of(tmp_path, "[feed]\nstale_after_s = 9\ncontract = 'x'", **{variable: value})
    models: dict[str, type[Section]] = {"feed": FeedSection, "julie": JulieSection, "redis": RedisSection}
    assert getattr(settings.section(section, models[section]), name) == expected


def test_other_variables_are_not_ours(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "", JULIE_TEST_TIME_FACTOR="3", HOME="/root")
    assert settings.section("julie", JulieSection).env == "sim"


def test_refused_value_is_not_repeated(tmp_path: Path) -> None:
    """Somebody put a key where a number belongs: the message must not carry it into a log."""
    problems = problems_of(settings_of(tmp_path, '[feed]\nstale_after_s = "canary-secret"'))
    assert "canary" not in str(problems)


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_secret_file_that_is_no_secret(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    redis = RedisSection(url="redis://redis/0", password_file=path)
    with pytest.raises(SettingsRefused, match=r"redis\.password_file") as caught:
        redis.address(tmp_path)
    assert str(path) in str(caught.value)


def test_secret_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("canary-4d2e\n")
    address = RedisSection(url="redis://redis/0", password_file=path).address(tmp_path)
    assert address.password == "canary-4d2e"
    assert "canary" not in repr(address)


@pytest.mark.parametrize("symbols", [["ES", "ES"], ["es"], ["M ES"], [], ["{MES}"]])
def test_refused_symbols(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match="symbols"):
        JulieSection(symbols=tuple(symbols))


def test_reserve_leaves_room() -> None:
    with pytest.raises(ValueError, match="must be below requests_max_per_60s"):
        BrokerSection(requests_max_per_60s=30, requests_reserved=30)


@pytest.mark.parametrize("value", ["", "A", "a b", "../x", "a" * 33, "a{b}"])
def test_refused_strategy_id(value: str) -> None:
    with pytest.raises(ValueError, match="a-z, 0-9"):
        check_strategy_id(value)


def test_fingerprint_follows_the_settings(tmp_path: Path) -> None:
    one = settings_of(tmp_path, "[feed]\nstale_after_s = 1").fingerprint()
    two = settings_of(tmp_path, "[feed]\nstale_after_s = 2").fingerprint()
    again = settings_of(tmp_path, "[feed]\nstale_after_s = 1").fingerprint()
    assert one == again != two


def test_every_service_has_a_section() -> None:
    services = {path.name for path in (Path(__file__).parents[4] / "services").iterdir() if path.is_dir()}
    assert {name for name in services if not name.startswith("_")} - {"dashboard"} <= set(SECTIONS)
