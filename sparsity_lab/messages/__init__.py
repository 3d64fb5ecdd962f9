"""What the product says: a key with values until it is shown, then words of one language."""

from sparsity_lab.messages.catalogue import LANGUAGES, Language, Words, words_in
from sparsity_lab.messages.message import Message, Said, Value, linked, listed, message

__all__ = ["LANGUAGES", "Language", "Message", "Said", "Value", "Words", "linked", "listed", "message", "words_in"]
