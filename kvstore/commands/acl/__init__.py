"""Access control: who may run which commands on which keys and channels.

Every session has a User; what it may do is the sum of the user's selectors. A user who may do everything costs
nothing: only sessions of others have tables whose commands are checked.

    selector.py   one set of permissions     user.py    a user, and the rules that change one
    users.py      all users of a hub         lines.py   users in files
    log.py        what was refused           commands.py   ACL
"""

from kvstore.commands.acl.user import RuleError, User
from kvstore.commands.acl.users import Users

__all__ = ["RuleError", "User", "Users"]
