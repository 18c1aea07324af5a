"""Kills a real run over and over, at seeded random moments, and looks at what is lost and left.

    python -m benchmarks.kills --kills 100 --record kills.jsonl
    python -m benchmarks.kills --table kills.jsonl

One undisturbed run gives the checkpoints that every other must end with. Then come *chains*: a run
of the same scenario in a new workspace (`dkd run`: 2 ranks, two steps and a memory, the embedded S3
server) is started, killed at a random moment, started again, killed again, ..., until it is
finished. Each kill is of one kind:

    rank KILL, rank TERM              one of the ranks, at random
    torchrun KILL, torchrun TERM      the process that watches over the ranks
    component KILL, component TERM    KFP's component, which launched torchrun
    run KILL, run TERM                `dkd run` itself, which owns the S3 server
    run INT                           Ctrl-C in its terminal
    store KILL                        SeaweedFS; the run starts it again and goes on

and comes at a moment of the run's own progress, after a random short delay: the n-th line of its
output, the n-th iteration of a step, the n-th save under way, or a stage's end.

After each kill nothing may be left: no process that carries the chain's mark or works in its folder
or has become an orphan (this program is the reaper of its descendants), no file in TMPDIR, no
socket of the server. In the store there may be the last two saves and the one that was under
way. The next start must resume from the last save that the log tells of, or a later one, and within
one saving interval (and the time of a save and an iteration) of where the log of the killed one
ended; after SIGTERM exactly there or later. At the end of a chain both
checkpoints have the undisturbed run's sha256, every artifact is whole, and no save, part or upload
is left.

Every kill is a line of JSON in the record; exit status 1 if one shows a problem. The same seed
gives the same chains, as far as timing allows. A kill takes about as long as a start of the run,
20 s on two idle cores.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.kills.chain import MOST_KILLS, Chain
from benchmarks.kills.processes import become_reaper
from benchmarks.kills.record import Deck, table
from benchmarks.kills.run import SCENARIO, TASK, undisturbed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many, at least (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the first chain (1)")
    parser.add_argument("--record", type=Path, help="file that the lines of JSON are added to")
    parser.add_argument("--work", type=Path, help="folder for the workspaces")
    parser.add_argument("--per-chain", type=int, default=MOST_KILLS, help="kills of a run at most")
    parser.add_argument("--steps", type=int, choices=(1, 2), default=2, help="of the run (2)")
    parser.add_argument("--table", type=Path, help="only print the table of this record")
    given = parser.parse_args()
    if given.table:
        print(table([json.loads(line) for line in given.table.read_text().splitlines()]))
        return 0
    become_reaper()
    work = given.work or Path(tempfile.mkdtemp(prefix="kills-"))
    work.mkdir(parents=True, exist_ok=True)
    task = TASK if given.steps == 2 else TASK.split("], ")[0] + "]]"
    (work / "kills.yaml").write_text(SCENARIO.format(task=task))
    known = work / f"expected-{given.steps}.json"
    if known.exists():
        expected = {int(step): digest for step, digest in json.loads(known.read_text()).items()}
    else:
        expected = undisturbed(work / "undisturbed")
        known.write_text(json.dumps(expected))
    kinds, kills, seed = Deck(given.seed), list[dict[str, object]](), given.seed
    while len(kills) < given.kills:
        folder = work / f"c{seed}"
        chain = Chain(seed, kinds, folder)
        wanted = min(given.kills - len(kills), given.per_chain)
        for kill in chain.follow(wanted, expected):
            kills.append({**asdict(kill), "outcome": kill.outcome})
            line = json.dumps(kills[-1])
            print(line, flush=True)
            if given.record:
                with given.record.open("a") as record:
                    record.write(line + "\n")
        if not any(kill.problems for kill in chain.kills):
            shutil.rmtree(folder)
        seed += 1
    print(table(kills))
    return 1 if any(kill["problems"] for kill in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
