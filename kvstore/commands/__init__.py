"""From argv to a Store method to a reply: registry, reply kinds, sessions, and the hub they share."""
