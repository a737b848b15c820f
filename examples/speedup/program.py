# Ways to cut a stick of each length into pieces of 1, 2 and 5, by the rule; one length a line, then 0.
def ways(length, largest):
    if length == 0:
        return 1
    if length < 0 or largest == 0:
        return 0
    smaller = 2 if largest == 5 else 1 if largest == 2 else 0
    return ways(length - largest, largest) + ways(length, smaller)


total = 0
while True:
    length = int(input())
    if length == 0:
        break
    count = ways(length, 5)
    for step in range(length * 20):
        total = (total * 31 + count + step) % 1000003
    print(count, total)
