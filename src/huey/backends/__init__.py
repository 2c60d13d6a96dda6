"""The plug-in interface of 0.4.9: a queue is made of four small components, shipped ones or your own. ``base`` documents them."""
