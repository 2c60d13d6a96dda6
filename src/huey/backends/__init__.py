"""The plug-in room of 0.4.9: a queue is made of four small parts, shipped ones or your own. ``base`` says what a part does."""
