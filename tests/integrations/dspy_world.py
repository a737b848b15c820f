"""A program for DSPy, with a model that answers by its prompt alone: right when it is told to be careful."""

from __future__ import annotations

import json
import re

import dspy


class Model(dspy.BaseLM):
    """Adds the two numbers of the last question if the prompt says "carefully"; otherwise it gives the first."""

    def __init__(self):
        super().__init__("scripted")

    def forward(self, prompt=None, messages=None, **kwargs):
        said = "\n".join(str(message["content"]) for message in messages or [{"content": prompt}])
        first, second = re.findall(r"(\d+) and (\d+)", str((messages or [{"content": prompt}])[-1]["content"]))[-1]
        answer = int(first) + int(second) if "carefully" in said else int(first)
        if "JSON" in said and "[[ ##" not in said:
            text = json.dumps({"answer": str(answer)})
        else:
            text = f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"
        from types import SimpleNamespace

        choice = SimpleNamespace(message=SimpleNamespace(content=text, tool_calls=None), finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={}, model="scripted")


dspy.configure(lm=Model())
print("a program may print")


def program():
    return dspy.Predict(dspy.Signature("question -> answer", "Answer."))


def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
    right = pred.answer == gold.answer
    return dspy.Prediction(score=float(right), feedback="" if right else f"right would be {gold.answer}")
