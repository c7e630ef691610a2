"""Views of an image that keep its class: changes of whole batches, each image by its own draw, on whatever device.

A weak view is what is learnt from; a strong view of the same image must be given the same answer (Sohn et al.,
"FixMatch", 2020). What keeps the class depends on what the images show, so every kind of image has its own changes.
"""

from apercu.augment.domains import DOMAINS, Domain, choose_domain, domain_for
from apercu.augment.views import Views, views_for

__all__ = ["DOMAINS", "Domain", "Views", "choose_domain", "domain_for", "views_for"]
