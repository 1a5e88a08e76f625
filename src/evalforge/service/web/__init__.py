"""The reviewers' web pages: rendered here, without scripts, and nothing that they show leaves their own origin."""
