"""A Django site with the endpoints of django-oauth-toolkit and nothing else; runs in an environment of its own."""
