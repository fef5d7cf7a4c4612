"""Lines of several processes that share a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

PROGRAM = """
import asyncio, sys
from gateway.config import Log
from gateway.log import configure_logging, get_logger

async def main(name):
    log = get_logger()
    for number in range(200):
        for part in range(30):  # many lines in one pass of the loop, much more than a pipe takes at once
            log.info("event", writer=name, number=number * 30 + part, padding="x" * (part * 7 % 300))
        await asyncio.sleep(0)

configure_logging(Log(format="json"), process="writer-" + sys.argv[1])
asyncio.run(main(sys.argv[1]))
"""
WRITERS = 3
LINES = 6000


def test_lines_of_several_processes_are_not_torn() -> None:
    read, write = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(number)], stderr=write) for number in range(WRITERS)
    ]
    os.close(write)
    data = bytearray()
    while part := os.read(read, 1000):  # a slow reader: the pipe is full most of the time
        data += part
    os.close(read)
    lines = bytes(data).splitlines()
    assert [writer.wait(20) for writer in writers] == [0] * WRITERS
    entries = [json.loads(line) for line in lines]
    assert Counter(entry["writer"] for entry in entries) == {str(number): LINES for number in range(WRITERS)}
    for number in range(WRITERS):
        assert [entry["number"] for entry in entries if entry["writer"] == str(number)] == list(range(LINES))
