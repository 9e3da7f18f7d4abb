"""A report that no replica has sent, of a stage that there is not."""

FORGED = {
    "version": 1,
    "command_id": "c",
    "stage": "forged",
    "consumes": "one",
    "exchange": "one",
    "produces": None,
    "state": "running",
    "in_flight": 1,
    "handled": 1,
    "failed": 0,
    "since": "2026-11-25T10:00:00Z",
}
