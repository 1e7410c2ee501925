"""An OpenAI-compatible endpoint: one question with pictures, one answer, tried again if need be."""

import base64
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from a2edit.runtime.errors import RequestError

LONGEST_SIDE = 1024  # of a picture that is sent
LONGEST_WAIT = 60.0
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class NoAnswerError(Exception):
    """The endpoint was asked as often as is sensible, and gave nothing that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the judge is. `url` ends before /chat/completions, such as http://127.0.0.1:8000/v1."""

    url: str
    model: str
    key: str | None = None
    tries: int = 4
    timeout: float = 120.0  # seconds, for each try
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise RequestError(
                f"--vlm-url {self.url!r} is no address: give an OpenAI-compatible endpoint, such "
                "as http://127.0.0.1:8000/v1"
            )

    def ask(self, prompt: str, pictures: Sequence[tuple[str, Image.Image]]) -> str:
        """The model's words about pictures that are given with their names.

        Raises RequestError for a refusal that another try would not change, NoAnswerError for
        an endpoint that stays busy, slow or away.
        """
        content: list[dict[str, Any]] = []
        for name, picture in pictures:
            content.append({"type": "text", "text": f"{name}:"})
            content.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
        messages = [
            {"role": "system", "content": prompt},
            {"role": "user", "content": content},
        ]
        return _words(self._post({"model": self.model, "messages": messages, "temperature": 0}))

    def _post(self, question: dict[str, Any]) -> Any:
        import httpx2

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        address = f"{self.url.rstrip('/')}/chat/completions"
        reason, wait = "", 0.0
        for turn in range(self.tries):
            if turn:
                self.sleep(wait)
            wait = min(LONGEST_WAIT, 2.0**turn)
            try:
                with httpx2.Client(timeout=self.timeout) as client:
                    answer = client.post(address, json=question, headers=headers)
            except httpx2.InvalidURL as error:
                raise RequestError(f"--vlm-url {self.url!r} is no address: {error}") from None
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
                continue
            if answer.status_code == 200:
                try:
                    return answer.json()
                except ValueError:
                    reason = "its answer is no JSON"
                    continue
            reason = f"HTTP {answer.status_code}: {' '.join(answer.text.split())[:200]}"
            if answer.status_code not in AGAIN:
                raise RequestError(
                    f"{address} refused: {reason}: check --vlm-url, --vlm-model {self.model} and "
                    "the key in OPENAI_API_KEY"
                )
            wait = _asked_to_wait(answer.headers.get("retry-after"), wait)
        raise NoAnswerError(f"{address} gave no answer in {self.tries} tries: {reason}")


def data_url(picture: Image.Image) -> str:
    """A PNG of at most LONGEST_SIDE pixels a side, as an address."""
    small = picture.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _asked_to_wait(header: str | None, otherwise: float) -> float:
    try:
        return min(LONGEST_WAIT, max(0.0, float(header or "")))
    except ValueError:
        return otherwise


def _words(answer: Any) -> str:
    """What the first choice says; some servers give its text in parts."""
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise NoAnswerError(
            f"an answer without choices[0].message.content: {answer!r:.200}"
        ) from None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
