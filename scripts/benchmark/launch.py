"""launch.py REPORT COMMAND…: runs a command and writes what it took to the file REPORT, as JSON.

A process inherits the peak memory of the one that started it, so a command is started from this small one and not from the
script that holds data in memory: no figure below about 10 MiB can be told from that floor.
"""

import os
import sys
import time


def main():
    start = time.monotonic()
    pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - start
    with open(sys.argv[1], "w") as report:
        report.write(f'{{"wall_s": {wall}, "cpu_s": {usage.ru_utime + usage.ru_stime}, "peak_mib": {usage.ru_maxrss / 1024}}}')
    return os.waitstatus_to_exitcode(status) % 256


if __name__ == "__main__":
    sys.exit(main())
