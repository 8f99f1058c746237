"""The data sent between service and client (docs/wire.md), defined once for both."""
