"""Seconds of an optimizer step: a roofline, what is known of GPU types, and what logs teach about them."""
