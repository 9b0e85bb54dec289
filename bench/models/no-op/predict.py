"""Returns its input at once, 32 at a time: what is measured with it is everything but the model.

Needs Cog 0.14 or newer, which is where async predictors begin; `no-op-sync` runs on every Cog.
"""

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    async def predict(self, text: str = Input(default="", description="Comes back unchanged.")) -> str:
        return text
