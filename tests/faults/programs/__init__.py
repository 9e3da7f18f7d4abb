"""Programs that faults run in containers of the stages' Python; they need nothing but it."""
