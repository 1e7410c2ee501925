"""The VLM score: a vision-language model as a judge, behind any OpenAI-compatible endpoint."""
