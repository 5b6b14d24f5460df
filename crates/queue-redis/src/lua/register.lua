-- Every name ends in the version, so that two versions of this library work beside each other. What frees memory, or needs
-- none, works while memory is short.
redis.register_function { function_name = 'offer_@version@', callback = offer }
redis.register_function { function_name = 'offer_unordered_@version@', callback = offer_unordered }
redis.register_function { function_name = 'claim_@version@', callback = claim, flags = { 'allow-oom' } }
redis.register_function { function_name = 'finish_@version@', callback = finish, flags = { 'allow-oom' } }
redis.register_function { function_name = 'extend_@version@', callback = extend, flags = { 'allow-oom' } }
redis.register_function { function_name = 'promote_@version@', callback = promote, flags = { 'allow-oom' } }
redis.register_function { function_name = 'rescue_@version@', callback = rescue, flags = { 'allow-oom' } }
redis.register_function { function_name = 'configure_@version@', callback = configure, flags = { 'allow-oom' } }
redis.register_function { function_name = 'pause_@version@', callback = pause, flags = { 'allow-oom' } }
redis.register_function { function_name = 'resume_@version@', callback = resume, flags = { 'allow-oom' } }
redis.register_function { function_name = 'hold_@version@', callback = hold, flags = { 'allow-oom' } }
redis.register_function { function_name = 'release_@version@', callback = release, flags = { 'allow-oom' } }
redis.register_function { function_name = 'put_@version@', callback = put, flags = { 'allow-oom' } }
redis.register_function { function_name = 'waiting_@version@', callback = waiting, flags = { 'no-writes' } }
redis.register_function { function_name = 'remove_@version@', callback = remove, flags = { 'allow-oom' } }
redis.register_function { function_name = 'depth_@version@', callback = depth, flags = { 'no-writes' } }
redis.register_function { function_name = 'longest_wait_@version@', callback = longest_wait, flags = { 'no-writes' } }
redis.register_function { function_name = 'check_in_@version@', callback = check_in, flags = { 'allow-oom' } }
redis.register_function { function_name = 'check_out_@version@', callback = check_out, flags = { 'allow-oom' } }
redis.register_function { function_name = 'workers_@version@', callback = workers, flags = { 'no-writes' } }
redis.register_function { function_name = 'list_@version@', callback = list, flags = { 'no-writes' } }
redis.register_function { function_name = 'identity_@version@', callback = identity, flags = { 'no-writes' } }
redis.register_function { function_name = 'mark_@version@', callback = mark, flags = { 'allow-oom' } }
