"""Texts that would do something if anybody took them for more than texts, and a run that has them in every field."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Final, NamedTuple

#: What a page that took a text for code would have asked for, or set on its window.
CANARY: Final = "canary"


class Text(NamedTuple):
    """One of them, and what a person is shown for it."""

    name: str
    text: str
    shown: str


def texts() -> list[Text]:
    """Return all of them."""
    path = pathlib.Path(__file__).parents[1] / "data" / "hostile.json"
    return [
        Text(row["name"], row["text"] * row.get("times", 1), row["shown"] * row.get("times", 1))
        for row in json.loads(path.read_text())
    ]


#: Some of all sorts in a text that fits where there is one only; the ends differ, to be told apart.
MIXED: Final = (
    "<img src=http://canary.invalid/{0}.png onerror=window.canary=1>\"'</title><svg onload=window.canary=1>"
    "$\\alpha$ {{{{7*7}}}} \x1b[31m\u202e\u200b {0}"
)
#: A daemon of ours takes no id that cannot be printed.
RUN_ID: Final = "".join(c for c in MIXED.format("id") if c.isprintable())
NAME: Final = MIXED.format("name")
REASON: Final = MIXED.format("reason")


def events() -> list[dict[str, Any]]:
    """Return what a worker prints: an episode a text, with it in each of the fields, and last a picture that is none."""
    told: list[dict[str, Any]] = [{"type": "run_started", "config": {"game_id": NAME, NAME: [NAME]}}]
    for episode, (_, text, _) in enumerate(texts()):
        names = {"agent_id": text, "worker_id": text, "episode": episode, "policy_label": text, "backend": text}
        letters = [text[:4].ljust(4), text[4:8].ljust(4)]
        payload = {"mode": "grid", "grid": letters, "agent_position": [0, 0], "game_id": text, "player": text}
        if episode == len(texts()) - 1:
            payload |= {"grid": NAME}
        step = {
            "action": text,
            "observation": [text, {text: [text]}],
            "render_hint": {text: text},
            "render_payload": payload,
            "frame_ref": text,
            "note": text,
            "q_before": float(episode),
            text[:300]: episode,
        }
        told += [
            {"type": "step", **names, "step_index": i, "reward": 1.0, "terminated": i == 1, **step} for i in (0, 1)
        ]
        of_episode = {"control_mode": text, "game_id": text, "note": text, "metadata": {text: text}}
        told.append({"type": "episode", **names, "reward": 2.0, "steps": 2, "terminated": True, **of_episode})
    told.append({"type": "run_completed", "status": "failed", "error": REASON})
    return told
