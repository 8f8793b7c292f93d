"""The handlers of the identity service, one module a subject; ``IdentityService`` is made of them."""
