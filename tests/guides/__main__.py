"""`python -m tests.guides`: name the documents that are stale, or write their generated parts anew with `--write`."""

import sys

from tests.guides.documents import DOCUMENTS, brought_up_to_date
from tests.support.paths import ROOT


def main(arguments):
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = brought_up_to_date(text)
        if new != text:
            stale.append(name)
            if "--write" in arguments:
                path.write_text(new, encoding="utf-8")
    print(f"{'Written' if '--write' in arguments else 'Stale'}: {', '.join(stale)}" if stale else "All documents are up to date.")
    return 1 if stale and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
