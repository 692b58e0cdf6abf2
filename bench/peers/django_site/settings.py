"""Production settings: no debugging, connections kept, no middleware but the common one."""

import os

SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
# It gives the answers their Content-Length, without which they are sent in chunks.
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "django_site.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
        # A connection for each thread, kept, as this server does.
        "CONN_MAX_AGE": None,
    }
}
OAUTH2_PROVIDER = {"SCOPES": {"read": "Read"}, "ACCESS_TOKEN_EXPIRE_SECONDS": 3600}
