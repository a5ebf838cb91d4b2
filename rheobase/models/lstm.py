"""A classifier of token sequences: embedding, bidirectional LSTM layers, the mean over time, two linear layers.

References:
    S. Hochreiter, J. Schmidhuber: Long Short-Term Memory, 1997.
    M. Schuster, K. Paliwal: Bidirectional Recurrent Neural Networks, 1997.
"""

from __future__ import annotations

from torch import Tensor, nn

from rheobase.errors import SettingError

__all__ = ["PADDING", "BiLSTM", "bilstm"]

PADDING = 0
"""The token that fills short sequences; it takes no part in the mean."""


class BiLSTM(nn.Module):
    """y = W2 relu(W1 mean(h)), h the outputs of the last LSTM layer at the tokens that are no padding.

    Args:
        vocabulary: Number of tokens, the padding included.
        embedding: Length of the vector of a token.
        hidden: Units of an LSTM layer, in each direction.
        layers: Number of LSTM layers.
        classes: Outputs.
        dropout: Probability of dropping a number after the embedding, between layers and before W1 and W2.

    Shape:
        int64 (N, L) -> (N, classes).
    """

    def __init__(
        self,
        vocabulary: int = 20_000,
        embedding: int = 128,
        hidden: int = 128,
        layers: int = 3,
        classes: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        given = {
            "vocabulary": vocabulary,
            "embedding": embedding,
            "hidden": hidden,
            "layers": layers,
            "classes": classes,
        }
        problems = [f"{key} is {value}; give a positive number" for key, value in given.items() if value < 1]
        if not 0 <= dropout < 1:
            problems.append(f"dropout is {dropout}; give a probability in [0, 1)")
        if problems:
            raise SettingError("BiLSTM: " + "; ".join(problems))
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PADDING)
        self.lstm = nn.LSTM(
            embedding,
            hidden,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, hidden)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) -> (N, classes)."""
        present = (tokens != PADDING).unsqueeze(2)  # (N, L, 1)
        outputs, _ = self.lstm(self.dropout(self.embedding(tokens)))  # (N, L, 2 hidden)
        mean = (outputs * present).sum(1) / present.sum(1).clamp(min=1)
        result: Tensor = self.classifier(self.dropout(self.relu(self.fc(self.dropout(mean)))))
        return result


def bilstm(
    vocabulary: int = 20_000,
    embedding: int = 128,
    hidden: int = 128,
    layers: int = 3,
    classes: int = 2,
    dropout: float = 0.0,
) -> BiLSTM:
    """The three-layer bidirectional LSTM; see `BiLSTM` for the arguments."""
    return BiLSTM(vocabulary, embedding, hidden, layers, classes, dropout)
