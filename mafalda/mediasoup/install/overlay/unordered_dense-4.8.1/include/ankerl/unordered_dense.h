// SPDX-License-Identifier: Apache-2.0
//
// map, set and hash under the names that mediasoup-worker includes, so that the worker can be built
// where the unordered_dense library cannot be downloaded. Written for Mafalda; not a copy.
//
// Values lie densely in a vector in insertion order, and a power-of-two table of (hash, position) pairs
// finds them by linear probing. So iterating over a router's consumers, which the worker does for each
// packet, walks contiguous memory. As with the library it stands in for:
//   - any insertion may invalidate iterators, pointers and references;
//   - erase(iterator) moves the last value into the hole and returns an iterator to the same place;
//   - a map's value_type is std::pair<Key, T>, whose key must not be changed by the caller.
//
// What belongs here: only what the worker's sources use. Node handles, allocators, bucket interface
// and heterogeneous lookup do not.

#ifndef MAFALDA_OVERLAY_ANKERL_UNORDERED_DENSE_H
#define MAFALDA_OVERLAY_ANKERL_UNORDERED_DENSE_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace ankerl::unordered_dense
{
	namespace detail
	{
		// A bijection on 64 bits in which each input bit reaches every output bit (MurmurHash3's finalizer).
		inline constexpr uint64_t mix(uint64_t x) noexcept
		{
			x ^= x >> 33U;
			x *= 0xff51afd7ed558ccdULL;
			x ^= x >> 33U;
			x *= 0xc4ceb9fe1a85ec53ULL;
			x ^= x >> 33U;

			return x;
		}
	} // namespace detail

	// Hash whose result is spread over all bits; `is_avalanching` tells the table so.
	template<typename T, typename = void>
	struct hash
	{
		using is_avalanching = void;

		uint64_t operator()(const T& value) const noexcept(noexcept(std::hash<T>{}(value)))
		{
			return detail::mix(static_cast<uint64_t>(std::hash<T>{}(value)));
		}
	};

	template<typename T>
	struct hash<T, std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>>>
	{
		using is_avalanching = void;

		uint64_t operator()(T value) const noexcept
		{
			return detail::mix(static_cast<uint64_t>(value));
		}
	};

	template<typename T>
	struct hash<T*>
	{
		using is_avalanching = void;

		uint64_t operator()(const T* value) const noexcept
		{
			return detail::mix(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(value)));
		}
	};

	namespace detail
	{
		struct SetTraits
		{
			template<typename Value>
			static const Value& Key(const Value& value) noexcept
			{
				return value;
			}
		};

		struct MapTraits
		{
			template<typename Value>
			static const typename Value::first_type& Key(const Value& value) noexcept
			{
				return value.first;
			}
		};

		template<typename KeyT, typename Value, typename Traits, typename Hash, typename Equal>
		class Table
		{
		public:
			using key_type        = KeyT;
			using value_type      = Value;
			using size_type       = size_t;
			using difference_type = std::ptrdiff_t;
			using hasher          = Hash;
			using key_equal       = Equal;
			using reference       = value_type&;
			using const_reference = const value_type&;
			using const_iterator  = typename std::vector<Value>::const_iterator;
			// A set's values are keys and keys are immutable.
			using iterator = std::conditional_t<
			  std::is_same_v<Traits, SetTraits>,
			  const_iterator,
			  typename std::vector<Value>::iterator>;

		public:
			Table() = default;

			Table(std::initializer_list<Value> init)
			{
				this->insert(init.begin(), init.end());
			}

			template<typename InputIt>
			Table(InputIt first, InputIt last)
			{
				this->insert(first, last);
			}

			Table(const Table&)            = default;
			Table& operator=(const Table&) = default;

			// A moved-from vector is empty for std::allocator, so a moved-from table is a valid empty one.
			Table(Table&& other) noexcept = default;
			Table& operator=(Table&&) noexcept = default;

			~Table() = default;

		public:
			iterator begin() noexcept
			{
				return this->values.begin();
			}

			iterator end() noexcept
			{
				return this->values.end();
			}

			const_iterator begin() const noexcept
			{
				return this->values.begin();
			}

			const_iterator end() const noexcept
			{
				return this->values.end();
			}

			const_iterator cbegin() const noexcept
			{
				return this->values.begin();
			}

			const_iterator cend() const noexcept
			{
				return this->values.end();
			}

			[[nodiscard]] bool empty() const noexcept
			{
				return this->values.empty();
			}

			[[nodiscard]] size_t size() const noexcept
			{
				return this->values.size();
			}

			void reserve(size_t count)
			{
				this->values.reserve(count);

				size_t wanted = MinBuckets;

				while (count > Capacity(wanted))
				{
					wanted *= 2;
				}

				if (wanted > this->buckets.size())
				{
					this->Rebuild(wanted);
				}
			}

			void clear() noexcept
			{
				this->values.clear();

				for (auto& bucket : this->buckets)
				{
					bucket = Bucket{};
				}
			}

			void swap(Table& other) noexcept
			{
				this->values.swap(other.values);
				this->buckets.swap(other.buckets);
			}

			iterator find(const KeyT& key)
			{
				return this->begin() + static_cast<difference_type>(this->PositionOf(key));
			}

			const_iterator find(const KeyT& key) const
			{
				return this->begin() + static_cast<difference_type>(this->PositionOf(key));
			}

			[[nodiscard]] bool contains(const KeyT& key) const
			{
				return this->PositionOf(key) != this->values.size();
			}

			[[nodiscard]] size_t count(const KeyT& key) const
			{
				return this->contains(key) ? 1U : 0U;
			}

			std::pair<iterator, bool> insert(const Value& value)
			{
				return this->InsertWith(Traits::Key(value), [&value] { return Value(value); });
			}

			std::pair<iterator, bool> insert(Value&& value)
			{
				return this->InsertWith(Traits::Key(value), [&value] { return Value(std::move(value)); });
			}

			template<typename InputIt>
			void insert(InputIt first, InputIt last)
			{
				for (; first != last; ++first)
				{
					this->insert(*first);
				}
			}

			template<typename... Args>
			std::pair<iterator, bool> emplace(Args&&... args)
			{
				return this->insert(Value(std::forward<Args>(args)...));
			}

			size_t erase(const KeyT& key)
			{
				const size_t position = this->PositionOf(key);

				if (position == this->values.size())
				{
					return 0U;
				}

				this->EraseAt(position);

				return 1U;
			}

			iterator erase(const_iterator it)
			{
				const auto offset = it - this->values.cbegin();

				this->EraseAt(static_cast<size_t>(offset));

				return this->begin() + offset;
			}

			friend bool operator==(const Table& a, const Table& b)
			{
				if (a.size() != b.size())
				{
					return false;
				}

				for (const auto& value : a)
				{
					const auto it = b.find(Traits::Key(value));

					if (it == b.end() || !(*it == value))
					{
						return false;
					}
				}

				return true;
			}

		protected:
			// Insert make() under key unless the key is there. key may refer into what make() moves from.
			template<typename Make>
			std::pair<iterator, bool> InsertWith(const KeyT& key, Make make)
			{
				const uint32_t keyHash = HashOf(key);
				const size_t found     = this->PositionOf(key, keyHash);

				if (found != this->values.size())
				{
					return { this->begin() + static_cast<difference_type>(found), false };
				}

				if (this->values.size() + 1U > Capacity(this->buckets.size()))
				{
					this->Rebuild(this->buckets.empty() ? MinBuckets : this->buckets.size() * 2U);
				}

				this->values.push_back(make());
				this->Place(keyHash, static_cast<uint32_t>(this->values.size()));

				return { std::prev(this->end()), true };
			}

			size_t PositionOf(const KeyT& key) const
			{
				return this->values.empty() ? 0U : this->PositionOf(key, HashOf(key));
			}

		private:
			struct Bucket
			{
				uint32_t hash{ 0 };
				// Position in values plus one; 0 is a free bucket.
				uint32_t place{ 0 };
			};

			static constexpr size_t MinBuckets{ 8 };

			static constexpr size_t Capacity(size_t bucketCount) noexcept
			{
				return bucketCount - (bucketCount / 4U);
			}

			static uint32_t HashOf(const KeyT& key)
			{
				auto full = static_cast<uint64_t>(Hash{}(key));

				if constexpr (!requires { typename Hash::is_avalanching; })
				{
					full = mix(full);
				}

				return static_cast<uint32_t>(full >> 32U);
			}

			size_t PositionOf(const KeyT& key, uint32_t keyHash) const
			{
				if (this->buckets.empty())
				{
					return this->values.size();
				}

				const size_t mask = this->buckets.size() - 1U;

				for (size_t i = keyHash & mask; this->buckets[i].place != 0U; i = (i + 1U) & mask)
				{
					const auto& bucket = this->buckets[i];

					if (bucket.hash == keyHash && Equal{}(Traits::Key(this->values[bucket.place - 1U]), key))
					{
						return bucket.place - 1U;
					}
				}

				return this->values.size();
			}

			// The bucket that holds this place. It exists: each value has exactly one.
			size_t BucketOf(uint32_t valueHash, uint32_t place) const noexcept
			{
				const size_t mask = this->buckets.size() - 1U;
				size_t i          = valueHash & mask;

				while (this->buckets[i].place != place)
				{
					i = (i + 1U) & mask;
				}

				return i;
			}

			void Place(uint32_t valueHash, uint32_t place) noexcept
			{
				const size_t mask = this->buckets.size() - 1U;
				size_t i          = valueHash & mask;

				while (this->buckets[i].place != 0U)
				{
					i = (i + 1U) & mask;
				}

				this->buckets[i] = Bucket{ valueHash, place };
			}

			void Rebuild(size_t bucketCount)
			{
				std::vector<Bucket> old(bucketCount);

				old.swap(this->buckets);

				for (const auto& bucket : old)
				{
					if (bucket.place != 0U)
					{
						this->Place(bucket.hash, bucket.place);
					}
				}
			}

			// Free a bucket and pull the following ones back over it, so that no probe ends too early.
			void FreeBucket(size_t hole) noexcept
			{
				const size_t mask = this->buckets.size() - 1U;

				for (size_t i = (hole + 1U) & mask; this->buckets[i].place != 0U; i = (i + 1U) & mask)
				{
					const size_t home = this->buckets[i].hash & mask;

					if (((i - home) & mask) >= ((i - hole) & mask))
					{
						this->buckets[hole] = this->buckets[i];
						hole                = i;
					}
				}

				this->buckets[hole] = Bucket{};
			}

			void EraseAt(size_t position)
			{
				const auto place     = static_cast<uint32_t>(position + 1U);
				const auto lastPlace = static_cast<uint32_t>(this->values.size());

				this->FreeBucket(this->BucketOf(HashOf(Traits::Key(this->values[position])), place));

				if (place != lastPlace)
				{
					const size_t last = this->BucketOf(HashOf(Traits::Key(this->values.back())), lastPlace);

					this->buckets[last].place = place;
					this->values[position]    = std::move(this->values.back());
				}

				this->values.pop_back();
			}

		private:
			std::vector<Value> values;
			std::vector<Bucket> buckets;
		};
	} // namespace detail

	template<typename Key, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	class set : public detail::Table<Key, Key, detail::SetTraits, Hash, Equal>
	{
	public:
		using detail::Table<Key, Key, detail::SetTraits, Hash, Equal>::Table;
	};

	template<typename Key, typename T, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	class map : public detail::Table<Key, std::pair<Key, T>, detail::MapTraits, Hash, Equal>
	{
	private:
		using Base = detail::Table<Key, std::pair<Key, T>, detail::MapTraits, Hash, Equal>;

	public:
		using mapped_type = T;
		using iterator    = typename Base::iterator;

		using Base::Base;

	public:
		template<typename... Args>
		std::pair<iterator, bool> try_emplace(const Key& key, Args&&... args)
		{
			return this->InsertWith(
			  key,
			  [&key, &args...]
			  {
				  return std::pair<Key, T>(
				    std::piecewise_construct,
				    std::forward_as_tuple(key),
				    std::forward_as_tuple(std::forward<Args>(args)...));
			  });
		}

		template<typename M>
		std::pair<iterator, bool> insert_or_assign(const Key& key, M&& value)
		{
			const auto it = this->find(key);

			if (it != this->end())
			{
				it->second = std::forward<M>(value);

				return { it, false };
			}

			return this->try_emplace(key, std::forward<M>(value));
		}

		T& operator[](const Key& key)
		{
			return this->try_emplace(key).first->second;
		}

		T& at(const Key& key)
		{
			const auto it = this->find(key);

			if (it == this->end())
			{
				throw std::out_of_range("ankerl::unordered_dense::map::at(): no such key");
			}

			return it->second;
		}

		const T& at(const Key& key) const
		{
			const auto it = this->find(key);

			if (it == this->end())
			{
				throw std::out_of_range("ankerl::unordered_dense::map::at(): no such key");
			}

			return it->second;
		}
	};
} // namespace ankerl::unordered_dense

#endif
