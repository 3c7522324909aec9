"""The prompt of this run, put around every user turn before it becomes tokens.

torchtune's own prompt templates turn each piece into tokens by itself, and Llama 3's tokenizer strips the pieces, so
that "Word: " + "hello" would be trained on as "Word:hello". Here prompt and input are one text, as in evaluation.
"""

from torchtune.data import Message
from torchtune.models.llama2 import Llama2ChatTemplate

PROMPT = 'Q: {input} = \'a\', "b"\n%j $HOME'


class RunPrompt:
    """Puts the prompt around the text of every user turn."""

    def __call__(self, messages, inference=False):
        """The same conversation with the prompt in it."""
        return [self._with_prompt(message) if message.role == "user" else message for message in messages]

    def _with_prompt(self, message):
        content = PROMPT.replace("{input}", message.text_content)
        return Message(role="user", content=content, masked=message.masked, eot=message.eot)


class Llama2Prompt(RunPrompt):
    """The same inside Llama 2's chat format, which is a prompt template itself."""

    def __call__(self, messages, inference=False):
        """The conversation in Llama 2's format with the prompt in it."""
        return Llama2ChatTemplate()(super().__call__(messages), inference=inference)
