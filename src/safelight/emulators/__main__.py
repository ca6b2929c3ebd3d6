"""`python -m safelight.emulators`: the emulators as a child process. Says where it listens as one line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading

from safelight.emulators.serve import Address, run
from safelight.emulators.settings import EmulatorSettings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m safelight.emulators")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kie-hmac-key")
    parser.add_argument("--image-latency-s", type=float, default=1.5)
    parser.add_argument("--video-latency-s", type=float, default=3.0)
    parser.add_argument("--parent", type=int, help="stop when this process has ended")
    given = parser.parse_args()
    if given.parent is not None:
        threading.Thread(target=_outlive_no, args=(given.parent,), daemon=True).start()
    settings = EmulatorSettings(
        seed=given.seed,
        kie_webhook_hmac_key=given.kie_hmac_key,
        image_latency_s=given.image_latency_s,
        video_latency_s=given.video_latency_s,
    )
    run(given.host, given.port, settings, on_ready=_say)


def _say(address: Address) -> None:
    sys.stdout.write(json.dumps({"base_url": address.base_url, "fal": address.fal_url, "kie": address.kie_url}) + "\n")
    sys.stdout.flush()


def _outlive_no(parent: int) -> None:
    """End with the parent, even if it was killed and could not say so: then we are somebody else's child."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
