"""A small transformer that continues text, and how to draw the next token.

Knows token ids. Knows nothing of text, files or devices.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CONTEXT = 128  # tokens it looks back on
WIDTH = 128
HEADS = 4
LAYERS = 4


class Block(nn.Module):
    """Attention with rotary positions and normalised queries and keys, then a squared-ReLU layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attention_out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.inner_norm = nn.RMSNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.inner_out = nn.Linear(4 * WIDTH, WIDTH, bias=False)
        nn.init.zeros_(self.attention_out.weight)
        nn.init.zeros_(self.inner_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.attention_norm(x))
        return x + self.inner_out(functional.relu(self.inner(self.inner_norm(x))).square())

    def attend(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        parts = self.queries_keys_values(x).view(batch, length, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(rotate(queries), rotate(keys), values, is_causal=True)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class LanguageModel(nn.Module):
    """Scores of the next token at every position. Tokens enter and leave through the same embedding."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = functional.rms_norm(self.embedding(tokens), (WIDTH,))
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.embedding.weight)


def rotate(x: Tensor) -> Tensor:
    """Normalise, then turn each pair of features by an angle that grows with the position."""
    length, features = x.shape[-2:]
    speeds = 1000 ** -torch.linspace(0, 1, features // 2, device=x.device)
    angles = torch.arange(length, device=x.device)[:, None] * speeds
    left, right = functional.rms_norm(x, (features,)).chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


@torch.inference_mode()
def next_token(model: LanguageModel, tokens: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> int:
    """Draw the token that follows: the likeliest one at temperature 0, else one of the `top_k` likeliest."""
    scores = model(tokens[None])[0, -1].cpu()
    if temperature == 0:
        return int(scores.argmax())
    best = scores.topk(min(top_k, len(scores)))
    chosen = torch.multinomial(functional.softmax(best.values / temperature, dim=0), 1, generator=generator)
    return int(best.indices[chosen])
