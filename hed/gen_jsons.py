"""Generate a UPF: one line of JSON per RUN, which holds out drug number `index`."""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from model_runner.files import write_file


def upf_text(count: int, now: datetime) -> str:
    """The UPF for `count` RUNs, RUN000 with index 0 and so on."""
    lines = ["# GEN JSONS", f"# COUNT: {count}", f"# TIMESTAMP: {now:%Y-%m-%d %H:%M:%S}"]
    lines += [json.dumps({"id": f"RUN{index:03}", "index": index}) for index in range(count)]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 when OUTPUT is written, 1 with one line on stderr when it is not."""
    parser = argparse.ArgumentParser(
        prog="gen-jsons", description=__doc__, epilog="example: gen-jsons 770 hed-gen-770.json"
    )
    parser.add_argument("count", type=int, metavar="COUNT", help="number of RUNs")
    parser.add_argument("output", metavar="OUTPUT", help="file to write, which must not exist; - for stdout")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"COUNT must be at least 1, not {options.count}")
    text = upf_text(options.count, datetime.now())
    if options.output == "-":
        sys.stdout.write(text)
        return 0
    output = Path(options.output)
    try:
        if output.exists():
            print(f"gen-jsons: refusing to overwrite {output}", file=sys.stderr)
            return 1
        write_file(output, text)
    except OSError as error:
        print(f"gen-jsons: {output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
