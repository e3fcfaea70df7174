"""One plugin's hook as mailer calls it, found by what the plugin is registered as, or given."""

from __future__ import annotations

import pluggy

from mailer import plugins


def hook_of(plugin: object, hook: str) -> pluggy.HookCaller:
    """That hook of this plugin alone. Fails the test when mailer would refuse the plugin."""
    manager, found = plugins.find()
    name = manager.get_name(plugin)
    if name is None:
        name = "under-test"
        manager, found = plugins.find({name: plugin})
    (about,) = [each for each in found if each.name == name]
    assert not about.refused, about.refused
    assert hook in about.hooks, f"the plugin has no {hook}, only {', '.join(about.hooks)}"
    return dict(plugins.one_by_one(manager, hook))[name]
