"""What the scripted provider says to embeddings: vectors of hashed words, equal for equal texts."""

import base64
import hashlib
import json
import math
import struct

from tests.adapters.litellm.answers import Json

__all__ = ["embed", "embeddings"]

_DIMENSIONS = 64


def embed(text: str) -> list[float]:
    """A unit vector of hashed words and letter triples: texts that look alike are near."""
    vector = [0.0] * _DIMENSIONS
    lowered = f" {text.lower()} "
    grams = [lowered[i : i + 3] for i in range(len(lowered) - 2)] + lowered.split() * 2
    for gram in grams:
        digest = hashlib.blake2b(gram.encode(), digest_size=4).digest()
        vector[digest[0] % _DIMENSIONS] += 1.0 if digest[1] & 1 else -1.0
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / norm for value in vector]


def embeddings(body: Json) -> Json:
    """The answer to an embeddings request: text or list of texts, floats or base64."""
    asked = body.get("input", "")
    texts = asked if isinstance(asked, list) and asked and isinstance(asked[0], str) else [asked]
    is_packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = embed(text if isinstance(text, str) else json.dumps(text))
        packed = base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
        value = packed if is_packed else vector
        data.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(len(str(text).split()) for text in texts)
    return {
        "object": "list",
        "model": str(body.get("model", "")),
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
