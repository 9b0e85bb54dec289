"""Greets whoever is named: the smallest useful Cog model, to show that a path works from end to end."""

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(self, text: str = Input(description="Whom to greet.")) -> str:
        return f"hello {text}"
