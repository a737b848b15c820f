"""What a user of DSPy writes: run in the DSPy environment as `dspy_compile.py WORKER PYTHON PATH RUNS`; prints JSON."""

from __future__ import annotations

import importlib.util
import json
import sys

import dspy
from dspy_world import metric, program

spec = importlib.util.spec_from_file_location("truegain_dspy", sys.argv[1])
truegain_dspy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(truegain_dspy)

rows = [
    (f"Case {n * 7919 % 1000}: {n * 31 % 97} and {n * 17 % 89 + 1}", n * 31 % 97 + n * 17 % 89 + 1) for n in range(120)
]
examples = [dspy.Example(question=text, answer=str(answer)).with_inputs("question") for text, answer in rows]
optimizer = truegain_dspy.TrueGain(
    metric=metric,
    python=sys.argv[2],
    path=sys.argv[3],
    max_metric_calls=300,
    demos=2,
    options={"model": None, "proposer": "tests.integrations.scripted:Words", "run_dir": sys.argv[4]},
)
student = program()
best = optimizer.compile(student, trainset=examples[:60], valset=examples[60:])
fresh = program()
fresh.load_state(json.loads(json.dumps(best.dump_state(), default=str)))
print(
    json.dumps(
        {
            "status": best.truegain["status"],
            "sentence": best.truegain["sentence"],
            "interval": best.truegain["interval"],
            "before": student.signature.instructions,
            "after": best.signature.instructions,
            "loaded": fresh.signature.instructions,
            "answer": best(question="Case 1: 20 and 22").answer,
        }
    )
)
