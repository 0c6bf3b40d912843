"""Run the simulator: `python -m services.simulator`, or with `alone` without the bus.

As one process of the system it beats on the bus like every other. Alone it needs nothing
but a port, for trying other clients against it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from services.simulator.config import SimulatorConfig
from services.simulator.contracts import PRODUCTS
from services.simulator.market_replay import BadRecording
from services.simulator.shell import CannotListen, Simulator, serving
from shared.runtime.clock import SystemClock
from shared.runtime.config import JulieSection, Settings, SettingsRefused
from shared.runtime.logs import set_up_logs
from shared.runtime.service import Context, serve


def _resolved(config: SimulatorConfig, julie: JulieSection) -> tuple[SimulatorConfig, Path]:
    """Fill in what defaults to the common settings."""
    database = config.database or julie.data_dir / "simulator.sqlite"
    speed = julie.market_speed if config.speed is None else config.speed
    # What Julie is told to trade may be a symbol that no venue has: this one simply does not list it.
    listed = tuple(symbol for symbol in julie.symbols if symbol in PRODUCTS)
    update = {"symbols": config.symbols or listed, "speed": speed}
    return config.model_copy(update=update), database


async def run(context: Context[SimulatorConfig]) -> None:
    """Serve until cancelled, beating on the bus.

    Raises:
        SettingsRefused: If the recording to replay cannot be read: starting again would not help.
    """
    config, database = _resolved(context.config, context.julie)
    try:
        async with serving(config, database=database, clock=context.clock, log=context.log) as simulator:
            _report(context, simulator)
            await simulator.run()
    except BadRecording as error:
        raise SettingsRefused("simulator", [f"simulator.replay_file: {error}"]) from error


def _report(context: Context[SimulatorConfig], simulator: Simulator) -> None:
    duty = context.beat.duty("market")
    simulator.pump.progress = duty
    detail = context.beat.detail
    detail["url"] = simulator.url
    if context.config.source == "replay":
        detail["replay"] = "playing"
        simulator.pump.on_finished = lambda: detail.update(replay="finished")
    context.beat.ready = True


async def _alone() -> None:
    settings = Settings.read()
    julie = settings.section("julie", JulieSection)
    config, database = _resolved(settings.section("simulator", SimulatorConfig), julie)
    log = set_up_logs("simulator", julie.log_level)
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    async with serving(config, database=database, clock=SystemClock(), log=log) as simulator:
        await simulator.run()


if __name__ == "__main__":
    if sys.argv[1:] == ["alone"]:
        try:
            asyncio.run(_alone())
        except asyncio.CancelledError:
            pass  # told to stop
        except (CannotListen, BadRecording, SettingsRefused) as error:
            sys.exit(f"simulator: {error}")
    else:
        serve("simulator", SimulatorConfig, run)
