"""Alarm out: payloads, the outbox and MQTT."""
