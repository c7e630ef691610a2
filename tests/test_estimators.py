"""The estimators keep scikit-learn's contract, and do what their pages say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from apercu.estimators import AutoencoderClassifier, AutoencoderTransformer

SHORT: dict[str, Any] = {"epochs": 20, "dim": 8, "learning_rate": 0.02, "random_state": 0, "device": "cpu"}


@parametrize_with_checks([AutoencoderTransformer(**SHORT), AutoencoderClassifier(**SHORT)])
def test_scikit_learn_contract(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it scikit-learn skips one of its checks
    check(estimator)
