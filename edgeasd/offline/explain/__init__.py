"""Why an alarm: which bands differ from normal sound, in words and in pictures."""
