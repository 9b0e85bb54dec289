"""Returns the values that Python counts as false, which careless code takes for no output at all."""

from typing import Any

from cog import BasePredictor, Input

VALUES: dict[str, Any] = {"empty_string": "", "zero": 0, "false": False, "empty_list": [], "none": None}


class Predictor(BasePredictor):
    def predict(
        self,
        kind: str = Input(
            description="Which value to return.", choices=["empty_string", "zero", "false", "empty_list", "none"]
        ),
    ) -> Any:
        return VALUES[kind]
