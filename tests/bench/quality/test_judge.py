"""The VLM score over a real local server: what is asked, what is made of every kind of answer."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2edit.bench.quality.baselines import pasted
from a2edit.bench.quality.drawn import drawn_subjects
from a2edit.bench.quality.judge.endpoint import LONGEST_SIDE, Endpoint, NoAnswerError, data_url
from a2edit.bench.quality.judge.prompts import PROMPTS
from a2edit.bench.quality.judge.score import Judge, score_in
from a2edit.bench.quality.run import MODEL
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import task
from a2edit.runtime.errors import RequestError

pytest.importorskip("httpx2", reason="extra 'quality' is not installed")
pytest.importorskip("skimage")

Reply = tuple[int, dict[str, str], str]  # status, headers, body


def says(words: Any) -> Reply:
    answer = {"choices": [{"message": {"role": "assistant", "content": words}}]}
    return 200, {}, json.dumps(answer)


@dataclass
class Server:
    """Answers by `reply`, which is given the number of the question; keeps what it was asked."""

    reply: Callable[[int], Reply]
    url: str = ""
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(lambda _: says('{"score": 50, "reasoning": ""}'))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, dict(self.headers.items()), body))
            status, headers, text = state.reply(len(state.asked) - 1)
            data = text.encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its own."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{running.server_port}/v1"
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def endpoint(url: str, **options: Any) -> tuple[Endpoint, list[float]]:
    """An endpoint, and the seconds that it has waited between its tries."""
    waited: list[float] = []
    made = Endpoint(url=url, model="judge-1", sleep=waited.append, **options)
    return made, waited


@pytest.fixture(scope="module")
def answer() -> Painted:
    return pasted(task(drawn_subjects(1)[0], "rough"))


def test_three_prompts_and_four_pictures(server: Server, answer: Painted) -> None:
    scores = (80, 60, 40)
    server.reply = lambda turn: says(json.dumps({"score": scores[turn], "reasoning": "…"}))
    judge = Judge(endpoint(server.url, key="secret")[0], (MODEL,))
    assert judge(MODEL, answer) == {
        "vlm_boundary": 80,
        "vlm_realism": 60,
        "vlm_consistency": 40,
        "vlm": 60,
    }
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"] * 3
    assert all(headers["Authorization"] == "Bearer secret" for _, headers, _ in server.asked)
    bodies = [body for _, _, body in server.asked]
    assert {body["model"] for body in bodies} == {"judge-1"}
    assert [body["messages"][0]["content"] for body in bodies] == [p.text for p in PROMPTS]
    parts = bodies[0]["messages"][1]["content"]
    names = [part["text"] for part in parts if part["type"] == "text"]
    assert [name.split()[0] for name in names] == ["Original", "Reference", "Mask", "Generated"]
    pictures = [opened(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    assert (pictures[0] == np.asarray(answer.task.subject.scene)).all()
    assert (pictures[2][..., 0] == answer.task.region).all()
    assert (pictures[3] == answer.picture).all()


def opened(url: str) -> Any:
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_baselines_are_not_asked_about(server: Server, answer: Painted) -> None:
    assert Judge(endpoint(server.url)[0], (MODEL,))("pasting", answer) == {}
    assert server.asked == []


def test_large_pictures_are_made_smaller() -> None:
    assert opened(data_url(Image.new("RGB", (3000, 1500)))).shape == (512, LONGEST_SIDE, 3)


def test_no_key_sends_no_header(server: Server, answer: Painted) -> None:
    Judge(endpoint(server.url)[0], (MODEL,))(MODEL, answer)
    assert all("Authorization" not in headers for _, headers, _ in server.asked)


def test_a_busy_endpoint_is_asked_again(server: Server) -> None:
    replies = [
        (503, {}, "loading"),
        (429, {"Retry-After": "7"}, "slow down"),
        says('{"score": 90}'),
    ]
    server.reply = lambda turn: replies[turn]
    asking, waited = endpoint(server.url)
    assert score_in(asking.ask("?", [])) == 90
    assert waited == [1, 7]


def test_one_that_stays_busy_is_given_up(server: Server) -> None:
    server.reply = lambda _: (500, {}, "out of memory\n on device 0")
    asking, waited = endpoint(server.url, tries=3)
    with pytest.raises(NoAnswerError, match="3 tries: HTTP 500: out of memory on device 0"):
        asking.ask("?", [])
    assert waited == [1, 2]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final(server: Server, status: int) -> None:
    server.reply = lambda _: (status, {}, '{"error": {"message": "no such model"}}')
    with pytest.raises(RequestError, match=f"HTTP {status}.*no such model.*OPENAI_API_KEY"):
        endpoint(server.url)[0].ask("?", [])
    assert len(server.asked) == 1


def test_nobody_there_is_an_error_at_once(answer: Painted) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    judge = Judge(endpoint(url, tries=2)[0], (MODEL,))
    with pytest.raises(RequestError, match="is it running"):
        judge(MODEL, answer)


def test_a_slow_one_times_out(server: Server) -> None:
    def slow(turn: int) -> Reply:
        time.sleep(0.5 if turn == 0 else 0)
        return says('{"score": 10}')

    server.reply = slow
    asking, waited = endpoint(server.url, timeout=0.2)
    assert score_in(asking.ask("?", [])) == 10
    assert waited == [1]


def test_what_is_no_address_is_refused() -> None:
    for url in ("localhost:8000", "ftp://host/v1", ""):
        with pytest.raises(RequestError, match="--vlm-url"):
            endpoint(url)


def test_an_answer_without_a_score_is_asked_for_again_and_then_left_out(
    server: Server, answer: Painted
) -> None:
    words = ["Lovely!", '{"score": 70}', "no", "still no", '{"score": 300}', '{"score": 30}']
    server.reply = lambda turn: says(words[turn])
    judge = Judge(endpoint(server.url)[0], (MODEL,))
    assert judge(MODEL, answer) == {"vlm_boundary": 70, "vlm_consistency": 30}
    assert (judge.answered, judge.unanswered) == (6, 1)


def test_an_endpoint_that_falls_silent_later_costs_its_scores_only(
    server: Server, answer: Painted
) -> None:
    server.reply = lambda turn: says('{"score": 20}') if turn == 0 else (503, {}, "gone")
    judge = Judge(endpoint(server.url, tries=2)[0], (MODEL,))
    assert judge(MODEL, answer) == {"vlm_boundary": 20}
    assert judge.unanswered == 2
    assert "HTTP 503: gone" in judge.last


@pytest.mark.parametrize(
    ("words", "score"),
    [
        ('{"score": 82, "reasoning": "clean"}', 82),
        ('```json\n{"score": 82.5}\n```', 82.5),
        ('Thinking {about it} … {"reasoning": "{a}", "score": "64"} done', 64),
        ('{"score": 0}', 0),
        ('{"score": 101}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        ("[82]", None),
        ("82", None),
        ("", None),
    ],
)
def test_scores_are_found_in_words(words: str, score: float | None) -> None:
    assert score_in(words) == score


@pytest.mark.parametrize(
    "body", ["<html>", "[]", '{"choices": []}', '{"choices": [{"message": {}}]}']
)
def test_other_protocols_are_no_answer(server: Server, body: str) -> None:
    server.reply = lambda _: (200, {}, body)
    with pytest.raises(NoAnswerError):
        endpoint(server.url, tries=1)[0].ask("?", [])


def test_texts_in_parts_and_empty_ones(server: Server) -> None:
    parts = [{"type": "text", "text": '{"score"'}, {"type": "text", "text": ": 5}"}]
    server.reply = lambda turn: says(parts if turn == 0 else None)
    asking = endpoint(server.url)[0]
    assert score_in(asking.ask("?", [])) == 5
    assert asking.ask("?", []) == ""


def test_the_prompts_are_the_papers() -> None:
    roles = [prompt.text.split("\n")[0] for prompt in PROMPTS]
    assert [
        next(word for word in ("Boundary", "Realism", "Consistency") if f"{word} " in role)
        for role in roles
    ] == ["Boundary", "Realism", "Consistency"]
    for prompt in PROMPTS:
        assert "Scoring Rubric (0-100)" in prompt.text
        assert '"score": 0-100 integer' in prompt.text
        assert "{{" not in prompt.text
