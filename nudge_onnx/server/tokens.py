"""`/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM's server has them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nudge_onnx.runtime.text.prompt import RawPrompt, as_messages

from .chat import MessageBody
from .errors import ApiError
from .fields import Strict
from .logprobs import token_text
from .requests import check_model, engine_of, read_body

__all__ = ["DetokenizeBody", "TokenizeBody", "detokenize", "tokenize", "tokenizer_info"]

Role = Literal["base", "nudge"]


class TokenizeBody(Strict):
    """A text, or a conversation as the chat's template makes it."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1)] | None = None
    add_special_tokens: bool = Field(True, description="Put before a prompt what the tokenizer puts there (BOS).")
    return_token_strs: bool = False
    role: Role = Field("base", description="Whose tokenizer.")

    @model_validator(mode="after")
    def _one(self) -> TokenizeBody:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either prompt or messages")
        return self


class DetokenizeBody(Strict):
    """Token ids."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, lt=2**31)]]
    role: Role = Field("base", description="Whose tokenizer.")


async def tokenize(request: Request) -> Response:
    """The ids of a text."""
    body = await read_body(request, TokenizeBody)
    if body.model is not None:
        check_model(request, body.model)
    engine = engine_of(request)
    lm = engine.lm
    tokenizer, record = lm.tokenizers[body.role], lm.bundle.manifest.models[body.role]

    def ids() -> list[int]:
        if body.messages is not None:
            system = lm.bundle.manifest.defaults.system_prompt or None
            messages = as_messages([message.message() for message in body.messages], system)
            return lm.prompt(body.role, messages, "escape").ids
        if not body.prompt:
            return []
        if body.add_special_tokens:
            return lm.raw_prompt(body.role, RawPrompt(body.prompt)).ids
        return tokenizer.encode_prompt(body.prompt, add_prefix=False)[0]

    found = await engine.prepare(ids)
    texts = [token_text(tokenizer.bytes_of(token)) for token in found] if body.return_token_strs else None
    return JSONResponse(
        {"count": len(found), "max_model_len": record.context_length, "tokens": found, "token_strs": texts}
    )


async def detokenize(request: Request) -> Response:
    """The text of ids."""
    body = await read_body(request, DetokenizeBody)
    if body.model is not None:
        check_model(request, body.model)
    tokenizer = engine_of(request).lm.tokenizers[body.role]
    if any(token >= tokenizer.size for token in body.tokens):
        raise ApiError(400, f"the model has tokens below {tokenizer.size} only", param="tokens")
    return JSONResponse({"prompt": RawPrompt(ids=body.tokens).text_of(tokenizer)})


async def tokenizer_info(request: Request) -> Response:
    """What a client needs of the base model's tokenizer to make prompts itself."""
    record = engine_of(request).lm.bundle.manifest.models["base"]
    ends = [engine_of(request).lm.tokenizers["base"].name_of(token) for token in record.end_token_ids]
    return JSONResponse(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": record.prompt.template,
            "bos_token": record.prompt.tokens.get("bos_token"),
            "eos_token": record.prompt.tokens.get("eos_token") or ends[0],
            "pad_token": record.prompt.tokens.get("pad_token"),
            "model_max_length": record.context_length,
        }
    )
