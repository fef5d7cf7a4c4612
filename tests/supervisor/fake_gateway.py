"""Runs a real supervisor over fake workers, as the CLI would. Prints `Serving` as JSON once it serves.

SIGHUP: the file that `reload_from` names is the new configuration, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvloop

from gateway.config import Config
from gateway.errors import StartupError
from gateway.log import configure_logging
from gateway.supervisor import Serving, Supervisor, Timing

MODULE = "tests.supervisor.fake_worker"


def announce(serving: Serving) -> None:
    print(json.dumps(serving._asdict()), flush=True)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    settings = Config.model_validate(options["config"])
    configure_logging(settings.log, process="supervisor")
    supervisor = Supervisor(
        settings,
        edge_module=MODULE,
        control_module=MODULE,
        timing=Timing(**options.get("timing", {})),
        reread=lambda: Config.model_validate_json(Path(options["reload_from"]).read_bytes()),
    )
    try:
        sys.exit(uvloop.run(supervisor.run(announce)))
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
