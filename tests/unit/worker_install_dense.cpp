// SPDX-License-Identifier: Apache-2.0
//
// Random operations on our dense map and on std::unordered_map: every answer and every content must agree.

#undef NDEBUG
#include <ankerl/unordered_dense.h>
#include <cassert>
#include <cstdio>
#include <memory>
#include <random>
#include <unordered_map>

// Four hashes for all keys: long probes, and erasing in the middle of them.
struct CollidingHash
{
	size_t operator()(const int& value) const
	{
		return static_cast<size_t>(value & 3);
	}
};

template<typename Map>
static void eraseMultiplesOf(int divisor, Map& map, std::unordered_map<int, int>& expected)
{
	for (auto it = map.begin(); it != map.end();)
	{
		if (it->first % divisor == 0)
		{
			expected.erase(it->first);
			it = map.erase(it);
		}
		else
		{
			++it;
		}
	}
}

template<typename Map>
static void compareContents(const Map& map, const std::unordered_map<int, int>& expected)
{
	assert(map.size() == expected.size());

	for (const auto& [key, value] : expected)
	{
		assert(map.at(key) == value);
	}

	for (const auto& [key, value] : map)
	{
		assert(expected.at(key) == value);
	}
}

template<typename Map>
static void compareWithStandard(unsigned seed, int keyRange, int rounds)
{
	std::mt19937 random(seed);
	std::unordered_map<int, int> expected;
	Map map;

	for (int i = 0; i < rounds; ++i)
	{
		const int key = static_cast<int>(random() % static_cast<unsigned>(keyRange));

		switch (random() % 5)
		{
			case 0:
			{
				const auto [it, inserted]         = map.emplace(key, i);
				const auto [expectedIt, expectedInserted] = expected.emplace(key, i);

				assert(inserted == expectedInserted && it->second == expectedIt->second);

				break;
			}
			case 1:
				assert(map.erase(key) == expected.erase(key));
				break;
			case 2:
			{
				const auto it = map.find(key);

				assert((it != map.end()) == (expected.count(key) == 1));

				if (it != map.end())
				{
					const auto offset = it - map.begin();

					assert(map.erase(it) - map.begin() == offset);
					expected.erase(key);
				}

				break;
			}
			case 3:
				map[key] = expected[key] = i;
				break;
			default:
				map.insert_or_assign(key, i);
				expected.insert_or_assign(key, i);
		}

		if (i % 2000 == 0)
		{
			eraseMultiplesOf(7, map, expected);
			compareContents(map, expected);

			Map copy  = map;
			Map moved = std::move(map);

			assert(copy == moved && map.empty() && map.find(key) == map.end());

			map = std::move(moved);
		}

		if (i % 30000 == 29999)
		{
			map.clear();
			expected.clear();
		}
	}

	compareContents(map, expected);
}

int main()
{
	namespace dense = ankerl::unordered_dense;

	for (unsigned seed = 0; seed < 3; ++seed)
	{
		compareWithStandard<dense::map<int, int>>(seed, 50, 100000);
		compareWithStandard<dense::map<int, int>>(seed, 5000, 100000);
	}

	compareWithStandard<dense::map<int, int, CollidingHash>>(9, 60, 50000);

	// Insertion order, as long as nothing is erased; then the last one fills the hole.
	dense::map<std::string, int> ordered{ { "a", 1 }, { "b", 2 }, { "c", 3 } };
	std::string order;

	ordered.erase("a");

	for (const auto& [key, value] : ordered)
	{
		order += key;
	}

	assert(order == "cb");

	try
	{
		(void)ordered.at("none");
		assert(false);
	}
	catch (const std::out_of_range&)
	{
	}

	// Values that can only be moved; the last one moving into its own place.
	dense::map<std::string, std::unique_ptr<int>> owned;

	owned.emplace("x", std::make_unique<int>(3));
	owned.try_emplace("y", std::make_unique<int>(4));
	owned.erase("y");
	assert(owned.size() == 1 && *owned.at("x") == 3);

	int first  = 0;
	int second = 0;
	dense::set<int*> pointers;

	assert(pointers.insert(&first).second && pointers.insert(&second).second && !pointers.insert(&first).second);
	assert(pointers.erase(&first) == 1 && pointers.count(&second) == 1 && !pointers.contains(&first));

	enum class Word : uint8_t
	{
		ONE = 1,
		TWO
	};

	const dense::map<Word, int> words{ { Word::ONE, 1 }, { Word::TWO, 2 } };

	assert(words.find(Word::TWO)->second == 2);

	std::puts("same");
}
