"""Returns its input at once, one prediction at a time, on every Cog."""

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(self, text: str = Input(default="", description="Comes back unchanged.")) -> str:
        return text
