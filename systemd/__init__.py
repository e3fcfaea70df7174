"""The units and what belongs to them, as data: `mailer systemd install` puts them in place."""
