//! Topics, commands, reports, and the pump that empties the outbox.
