"""mailer: a self-hosted service that accepts mail over REST, paces it, sends it and tracks it."""

__version__ = "0.1.0"
