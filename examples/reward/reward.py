def reward(position, speed, angle, spin, force):
    return -abs(position)
