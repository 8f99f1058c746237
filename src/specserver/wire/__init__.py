"""What travels between service and client (docs/wire.md), defined once for both."""
