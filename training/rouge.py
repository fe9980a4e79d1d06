"""ROUGE-L as the original evaluator's package counts it, so that figures can be compared to the last digit."""

from collections.abc import Sequence

from umi.errors import BadInput


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F at summary level, as the PyPI package `rouge` 1.0.1 counts it.

    Sentences end at every dot, words at white space. Of each pair of sentences one longest common subsequence is taken;
    the distinct words in all of these, over the distinct words of either text, are recall and precision, and
    F = 2PR / (P + R + 1e-8). Raises BadInput for a text without a sentence (empty, or dots only), where the package
    raises too.
    """
    left, right = _sentences(prediction), _sentences(reference)
    if not left or not right:
        raise BadInput("an empty answer", "predictions" if right else "reference")
    common = {word for target in right for sentence in left for word in _common_words(target, sentence)}
    recall, precision = (len(common) / len({word for words in text for word in words}) for text in (right, left))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str) -> list[list[str]]:
    # A sentence of white space is one empty word, not none: the package counts it so.
    return [part.split() or [""] for part in text.split(".") if part]


def _common_words(target: Sequence[str], sentence: Sequence[str]) -> set[str]:
    """The words of that longest common subsequence which the package picks among several of the same length."""
    length = [[0] * (len(sentence) + 1) for _ in range(len(target) + 1)]
    for i, wanted in enumerate(target, 1):
        for j, word in enumerate(sentence, 1):
            length[i][j] = length[i - 1][j - 1] + 1 if wanted == word else max(length[i - 1][j], length[i][j - 1])
    words = set[str]()
    i, j = len(target), len(sentence)
    while i and j:
        if target[i - 1] == sentence[j - 1]:
            words.add(target[i - 1])
            i, j = i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words
