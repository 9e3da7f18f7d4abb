"""What `message.upper()` costs by itself, in the stage's Python: the library's part is the rest.

Of a large message it is most of what a stage of ours takes: C has a loop that compilers turn into
vector instructions, Python looks at each character.
"""

from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support import images

NAME = "message.upper() alone, without the library"
_PROGRAM = """
import sys, time
text = "a" * int(sys.argv[1])
count = max(10, 20_000_000 // len(text))
began = time.process_time()
for _ in range(count):
    text.upper()
print((time.process_time() - began) / count * 1e6)
"""


def measure(rig: Rig) -> None:
    """Measure each size, in a container of to_upper."""
    image = images.stage("to_upper")
    for number in range(1, rig.options.rounds + 1):
        for size in rig.options.sizes:
            with rig.progress.doing(f"{NAME}: {size} B, round {number}"):
                said = rig.containers.output(image, "python", "-c", _PROGRAM, str(size))
            rig.record(
                Run(NAME, f"a text of {size:,} B", number, {"cpu_microseconds": float(said)})
            )
